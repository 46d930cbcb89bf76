"""What a person meets: options, exit codes, what is said, progress, files and pipes."""
