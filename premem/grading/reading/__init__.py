"""Reading what a text states: numbers, formulas, letters, boxes, and where its answer begins."""
