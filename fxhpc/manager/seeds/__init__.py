"""Where workers come from: processes that fork them, on the node itself or in a container."""
