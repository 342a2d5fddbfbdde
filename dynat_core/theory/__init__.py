"""Small self-contained systems of the related papers, in numpy: everything in them is known, so claims can be tested.

No torch, no folders: plain numbers in, arrays out. What each may claim is said on its screen and in docs/theory.md.
"""
