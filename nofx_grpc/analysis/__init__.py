"""What a trader's decisions came to: trades, statistics, performance, equity.  Pure: no file, no clock, no database."""
