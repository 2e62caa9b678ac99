"""What an endpoint's YAML says: read, laid out, checked, explained, made one."""
