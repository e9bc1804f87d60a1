"""How events arrive: whatever lands them as objects. What becomes of them then is the engines' and the assets'."""
