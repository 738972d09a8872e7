"""The door: who may come in, what every answer carries, and the pages behind it."""
