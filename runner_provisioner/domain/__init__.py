"""Pure decisions and values: no clock, environment, network or disk below this line."""
