"""Labs as TOML, interlock rules, the systemd unit, the generated schema: package data."""
