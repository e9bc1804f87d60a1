"""What each subcommand of `lakehouse` does and prints. Anything a program would want is in the layers below."""
