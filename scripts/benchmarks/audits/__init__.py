"""What audits find in honest kinds of contributions and in attacks."""
