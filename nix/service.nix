# A NixOS module: `serve`, the HTTP service. Its secrets are files that systemd hands over, as those of module.nix.
flake:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.runner-provisioner.serve;

  inherit (import ./options.nix lib) secretFile text outsideOfStore;

  # The credential's name in the unit: its file, and the variable that names it to the program.
  every = {
    runpod-key = {
      file = cfg.runpodKeyFile;
      variable = "RUNPOD_API_KEY_FILE";
    };
    prime-key = {
      file = cfg.primeKeyFile;
      variable = "PRIME_API_KEY_FILE";
    };
    celium-key = {
      file = cfg.celiumKeyFile;
      variable = "CELIUM_API_KEY_FILE";
    };
    database = {
      file = cfg.databaseFile;
      variable = "RUNNER_PROVISIONER_DATABASE_FILE";
    };
  };
  credentials = lib.filterAttrs (_: it: it.file != null) every;

  arguments = [
    "--host"
    cfg.listenAddress
    "--port"
    cfg.port
    "--rate-limit"
    cfg.rateLimit
  ]
  ++ lib.optionals cfg.allowUnauthenticated [ "--allow-unauthenticated" ]
  ++ lib.concatMap (name: [
    "--allow-host"
    name
  ]) cfg.allowHosts
  ++ lib.optionals (cfg.maxPrice != null) [
    "--max-price"
    cfg.maxPrice
  ]
  ++ lib.optionals (cfg.owner != null) [
    "--owner"
    cfg.owner
  ]
  ++ cfg.extraArgs;

  # Because systemd's own rules of quoting are not the shell's.
  serve = pkgs.writeShellApplication {
    name = "runner-provisioner-serve-unit";
    text = ''
      exec ${lib.getExe cfg.package} serve ${lib.escapeShellArgs arguments}
    '';
  };

  # Not that of the clean-up, whose user is another.
  folder = "runner-provisioner-serve";
  option = name: "services.runner-provisioner.serve.${name}";
in
{
  options.services.runner-provisioner.serve = {
    enable = lib.mkEnableOption "the HTTP service that rents and ends GPU pods";

    package = lib.mkOption {
      type = lib.types.package;
      default = flake.packages.${pkgs.stdenv.hostPlatform.system}.with-controller;
      defaultText = lib.literalExpression "runner-provisioner.packages.\${system}.with-controller";
      description = "The program, with what its extra `controller` needs.";
    };

    listenAddress = lib.mkOption {
      type = lib.types.str;
      default = "127.0.0.1";
      description = "Address to listen at. It speaks plain HTTP: before any other network belongs a proxy that speaks TLS.";
    };

    port = lib.mkOption {
      type = lib.types.port;
      default = 8000;
      description = "Port.";
    };

    allowHosts = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ ];
      example = [ "gpu.example.org" ];
      description = "Further names that requests may call the service by, without a port.";
    };

    allowUnauthenticated = lib.mkOption {
      type = lib.types.bool;
      default = false;
      description = "Whether to listen at an address that is not loopback though there are no keys.";
    };

    rateLimit = lib.mkOption {
      type = lib.types.ints.unsigned;
      default = 600;
      description = "Requests that each key may send in a minute; 0 for no limit.";
    };

    maxPrice = text "Most that a pod may cost per hour, USD, whatever a request says." "10.00";
    owner = text "The owner mark of the pods." "team-a";
    budgetDay = text "What all pods of the installation may cost in a day, USD." "50";
    budgetMonth = text "What all pods of the installation may cost in a month, USD." "500";

    extraArgs = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ ];
      example = [ "--log=json" ];
      description = "Further arguments of `serve`. Not for secrets: they are in the store.";
    };

    databaseFile = secretFile "the URL of the PostgreSQL database, or the path of a file of SQLite's; without it, a file of the service's own";
    runpodKeyFile = secretFile "the RunPod API key";
    primeKeyFile = secretFile "the Prime Intellect API key";
    primeTeamId = text "The team that Prime Intellect bills, when there is one." "team_1";
    celiumKeyFile = secretFile "the Lium (formerly Celium) API key";
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.runpodKeyFile != null || cfg.primeKeyFile != null || cfg.celiumKeyFile != null;
        message = "${option "runpodKeyFile"}: name the file with the RunPod API key, or set ${option "primeKeyFile"} or ${option "celiumKeyFile"}.";
      }
    ]
    ++ outsideOfStore (builtins.mapAttrs (_: it: it.file) credentials);

    # A user that stays, so that whoever administers the machine can make keys as it.
    users.users.runner-provisioner = {
      isSystemUser = true;
      group = "runner-provisioner";
      home = "/var/lib/${folder}";
    };
    users.groups.runner-provisioner = { };
    environment.systemPackages = [ cfg.package ];

    systemd.services.runner-provisioner-serve = {
      description = "HTTP service that rents and ends GPU pods";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];

      environment = {
        HOME = "/var/lib/${folder}";
        XDG_STATE_HOME = "/var/lib/${folder}";
        XDG_CACHE_HOME = "/var/cache/${folder}";
      }
      // lib.filterAttrs (_: value: value != null) {
        PRIME_TEAM_ID = cfg.primeTeamId;
        RUNNER_PROVISIONER_BUDGET_DAY = cfg.budgetDay;
        RUNNER_PROVISIONER_BUDGET_MONTH = cfg.budgetMonth;
      }
      // builtins.listToAttrs (
        lib.mapAttrsToList (name: it: {
          name = it.variable;
          value = "%d/${name}";
        }) credentials
      );

      serviceConfig = {
        Type = "exec";
        ExecStart = lib.getExe serve;
        LoadCredential = lib.mapAttrsToList (name: it: "${name}:${it.file}") credentials;
        Restart = "on-failure";
        RestartSec = "5s";
        # What is configured wrongly stays wrong.
        RestartPreventExitStatus = "2 3 7 8";
        # Requests under way have half a minute, and what they keep has to be written after that.
        TimeoutStopSec = "45s";

        User = "runner-provisioner";
        Group = "runner-provisioner";
        StateDirectory = folder;
        StateDirectoryMode = "0700";
        CacheDirectory = folder;
        CacheDirectoryMode = "0700";
        WorkingDirectory = "/var/lib/${folder}";
        UMask = "0077";
      }
      // import ./hardening.nix;
    };
  };
}
