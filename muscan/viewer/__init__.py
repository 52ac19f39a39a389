"""The volume in napari: what an operator sees, and a plugin that opens every file of ours."""
