"""Look at each image when its pull has settled, and say what appeared, changed and went."""
