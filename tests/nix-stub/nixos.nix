# lib.nixosSystem with the few options of NixOS that the module sets, and units written as NixOS writes them.
{ lib, legacyPackages }:
{ modules }:
let
  inherit (lib) mkOption types;

  system = evaluated.config.nixpkgs.hostPlatform;
  pkgs = legacyPackages.${system};

  open = mkOption {
    type = types.attrsOf types.anything;
    default = { };
  };
  base.options = {
    assertions = mkOption {
      type = types.listOf types.anything;
      default = [ ];
    };
    nixpkgs.hostPlatform = mkOption { type = types.str; };
    system.stateVersion = mkOption { type = types.str; };
    users = {
      users = open;
      groups = open;
    };
    environment.systemPackages = mkOption {
      type = types.listOf types.package;
      default = [ ];
    };
    systemd = {
      services = open;
      timers = open;
    };
  };

  evaluated = lib.evalModules {
    modules = [ base ] ++ modules;
    specialArgs = { inherit lib pkgs; };
  };
  inherit (evaluated) config;

  shown = value: if builtins.isBool value then (if value then "true" else "false") else toString value;
  lines =
    section:
    lib.concatMapStringsSep "" (
      name:
      let
        value = section.${name};
      in
      lib.concatMapStringsSep "" (one: "${name}=${shown one}\n") (if builtins.isList value then value else [ value ])
    ) (lib.attrNames section);
  unit = name: text: {
    inherit text;
    unit = pkgs.runCommand "unit-${name}" { inherit text; } ''
      mkdir -p "$out"
      printf '%s' "$text" > "$out/${name}"
    '';
  };
  head = unit: ''
    [Unit]
    Description=${unit.description or ""}
    ${lib.concatMapStringsSep "\n" (one: "Wants=${one}") (unit.wants or [ ])}
    ${lib.concatMapStringsSep "\n" (one: "After=${one}") (unit.after or [ ])}

  '';
  service = name: it: {
    name = "${name}.service";
    value = unit "${name}.service" ''
      ${head it}
      [Service]
      ${lib.concatMapStringsSep "\n" (one: "Environment=\"${one}=${it.environment.${one}}\"") (lib.attrNames (it.environment or { }))}
      ${lines it.serviceConfig}
      ${lib.concatMapStringsSep "\n" (one: "[Install]\nWantedBy=${one}") (it.wantedBy or [ ])}
    '';
  };
  timer = name: it: {
    name = "${name}.timer";
    value = unit "${name}.timer" ''
      ${head it}
      [Timer]
      ${lines it.timerConfig}
      [Install]
      ${lib.concatMapStringsSep "\n" (one: "WantedBy=${one}") (it.wantedBy or [ ])}
    '';
  };
in
{
  inherit (evaluated) options;
  config = config // {
    systemd = config.systemd // {
      units = builtins.listToAttrs (
        lib.mapAttrsToList service config.systemd.services ++ lib.mapAttrsToList timer config.systemd.timers
      );
    };
  };
}
