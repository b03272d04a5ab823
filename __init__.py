"""ghostnote: live drum transcription. Audio in; drum hits (time, class, velocity, confidence) out."""

__version__ = "0.1.0"
