"""The index of a person's recordings: embedded once, searched from then on."""
