"""Write verified archives and layouts from a store."""
