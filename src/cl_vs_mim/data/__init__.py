"""Data: the embedded cut-out scenes and the real data sets, all read by the same code.

Modules that compose: :mod:`.kit` (verified files), :mod:`.scenery` (what may stand where), :mod:`.compose` (pixels),
:mod:`.objects`, :mod:`.scenes` with :mod:`.arrange`, :mod:`.cue_conflict` (one data set each), :mod:`.writer` (whole or
absent, resumable), :mod:`.identity` (data hash, verification), :mod:`.contact_sheet`. :mod:`.commands` has what can be
typed.
"""
