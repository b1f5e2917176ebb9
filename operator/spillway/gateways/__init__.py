"""What runs inside other people's gateways: files that need nothing of Spillway."""
