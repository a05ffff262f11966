"""Measures what the pipeline is built for: turning orders of a shop database into request bodies, cheaply."""
