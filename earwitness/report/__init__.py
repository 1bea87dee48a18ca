"""The page of a run, data/report.html: one file that needs no network.

``assembly`` puts it together, ``sections`` lists what is on it; each section is one Python module
(its data), and in the folder ``page`` one HTML, one CSS and one JavaScript file of its name.
"""
