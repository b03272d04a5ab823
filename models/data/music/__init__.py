"""Music of other instruments, under the drums."""
