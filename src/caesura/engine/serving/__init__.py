"""Starting engines and servers, and talking to a running engine."""
