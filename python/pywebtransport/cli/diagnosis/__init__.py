"""What ``pywebtransport doctor`` finds out, without a command line around it."""
