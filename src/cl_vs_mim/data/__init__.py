"""Data: the embedded cut-out scenes and the real data sets, all read by the same code.

Modules that compose: :mod:`.kit` (verified files), :mod:`.scenery` (what may stand where), :mod:`.compose` (pixels),
:mod:`.objects`, :mod:`.scenes`, :mod:`.cue_conflict` (one data set each), :mod:`.writer` (whole or absent, resumable),
:mod:`.build` (command line), :mod:`.contact_sheet`.
"""
