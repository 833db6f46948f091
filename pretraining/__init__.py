"""Pretraining of the bundled encoder, `models/glyph_clip`."""
