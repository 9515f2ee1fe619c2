"""The report of a run: one HTML file that opens offline, and JUnit beside it.

To read: `record.py` (what a run left), `focus.py` (which part is shown), `page.py` (the content),
`files.py` (what is written). `index.py` is the page of all runs.
"""
