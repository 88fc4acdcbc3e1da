"""What depends on the model: chat formats, CML formats, grammars and tool call parsers."""
