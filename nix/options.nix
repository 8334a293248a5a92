# Kinds of options that the modules share.
lib: {
  # A string: a path literal would copy the secret into the store, which everybody can read.
  secretFile =
    description:
    lib.mkOption {
      type = lib.types.nullOr lib.types.str;
      default = null;
      example = "/run/secrets/name";
      description = "File with ${description}. Written as a string; read by systemd, not at build time.";
    };

  text =
    description: example:
    lib.mkOption {
      type = lib.types.nullOr lib.types.str;
      default = null;
      inherit example description;
    };

  # Assertions about credentials, by name.
  outsideOfStore = lib.mapAttrsToList (
    name: file: {
      assertion = lib.hasPrefix "/" file && !lib.hasPrefix "${builtins.storeDir}/" file;
      message = "${file}: name the ${name} by an absolute path outside of the Nix store, which everybody can read.";
    }
  );
}
