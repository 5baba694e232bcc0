"""What another fleet would give: ``gpuyard whatif``.

:mod:`.vary` writes the fleets, :mod:`.fleets` prices them, :mod:`.answer` says which one meets an
objective and how sure that is, :mod:`.page` and :mod:`.chart` show it in a browser.
"""
