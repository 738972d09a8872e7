"""The fault suite: writers of the bot's own code, faults done to them and their database, and one checker of it all."""
