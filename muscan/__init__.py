"""muscan: cosmic-muon tomography for scanners."""
