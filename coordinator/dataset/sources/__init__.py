"""Reads rows from files, folders and datasets on the Hugging Face Hub."""
