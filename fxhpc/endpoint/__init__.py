"""Named endpoints: their configuration and provisioning. Nothing yet; see `fxhpc.interchange`."""
