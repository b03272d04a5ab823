"""Training data made on the fly: performances (MIDI grooves, stress patterns) rendered to audio with exact labels."""
