"""What users submit on its way to a connection: checked, packed, numbered, put together."""
