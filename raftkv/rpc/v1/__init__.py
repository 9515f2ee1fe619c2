"""Generated from proto/ by scripts/genproto. Never edited by hand; checked for drift."""
