"""What ``pywebtransport bench`` measures, without a command line around it."""
