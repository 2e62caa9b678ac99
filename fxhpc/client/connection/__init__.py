"""Clients' connections to forwarders: in this process, on this host, over tcp, through ssh."""
