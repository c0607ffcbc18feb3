"""Manifests as texts: what people and charts write, in any style, changed in as few places as possible.

noah.core.inject decides what a pod becomes, and knows JSON only. The text around it is this room's: which documents
there are (stream), what kubectl reads in them (reading), and how a change is written (rewriting, writing). Only the
command line needs that, so that it is here and not in core. No file is opened here either.
"""
