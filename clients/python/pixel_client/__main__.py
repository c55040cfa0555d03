"""`python -m pixel_client` is the command `pixel`."""

from pixel_client.command import main

raise SystemExit(main())
