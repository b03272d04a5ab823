"""Labels for recordings that nobody labelled, by a model that hears them better than it does live.

    recordings --percussive--> several versions --checkpoint, longest delay--> mean outputs --decoder--> NAME.csv

`corpora.heard` reads them back, and training learns from those that are certain (docs/training.md).
"""
