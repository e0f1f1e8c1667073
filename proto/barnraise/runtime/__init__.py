"""The local machine: files, blobs on disk, child processes, the console, the allocator."""
