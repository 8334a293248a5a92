# A NixOS module: `cleanup` as a systemd timer, and the HTTP service (service.nix). Secrets are files that systemd hands over (systemd.exec(5), CREDENTIALS);
# they are in no unit, no argument list and no store path.
flake:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.runner-provisioner.cleanup;

  # The option that names the file, and the credential's name in the unit.
  credentials = lib.filterAttrs (_: file: file != null) {
    runpod-key = cfg.runpodKeyFile;
    prime-key = cfg.primeKeyFile;
    celium-key = cfg.celiumKeyFile;
    github-app-id = cfg.githubAppIdFile;
    github-app-key = cfg.githubAppPrivateKeyFile;
    github-token = cfg.githubTokenFile;
  };
  given = credential: credentials ? ${credential};

  export = variable: credential: ''
    ${variable}=$(<"$CREDENTIALS_DIRECTORY/${credential}")
    export ${variable}
  '';

  arguments =
    lib.optionals (cfg.repository != null) [
      "--repository"
      cfg.repository
    ]
    ++ lib.optionals (cfg.organization != null) [
      "--organization"
      cfg.organization
    ]
    ++ lib.optionals (cfg.owner != null) [
      "--owner"
      cfg.owner
    ]
    ++ cfg.extraArgs;

  cleanup = pkgs.writeShellApplication {
    name = "runner-provisioner-cleanup-unit";
    text = ''
      ${lib.optionalString (given "runpod-key") (export "RUNPOD_API_KEY" "runpod-key")}
      ${lib.optionalString (given "prime-key") (export "PRIME_API_KEY" "prime-key")}
      ${lib.optionalString (cfg.primeTeamId != null) ''
        export PRIME_TEAM_ID=${lib.escapeShellArg cfg.primeTeamId}
      ''}
      ${lib.optionalString (given "celium-key") (export "CELIUM_API_KEY" "celium-key")}
      ${lib.optionalString (cfg.githubAppId != null) ''
        export GITHUB_APP_ID=${lib.escapeShellArg cfg.githubAppId}
      ''}
      ${lib.optionalString (given "github-app-id") (export "GITHUB_APP_ID" "github-app-id")}
      ${lib.optionalString (given "github-app-key") ''
        export GITHUB_APP_PRIVATE_KEY_PATH="$CREDENTIALS_DIRECTORY/github-app-key"
      ''}
      ${lib.optionalString (given "github-token") (export "RUNNER_PROVISIONER_GITHUB_TOKEN" "github-token")}
      exec ${lib.getExe cfg.package} cleanup ${lib.escapeShellArgs arguments}
    '';
  };

  inherit (import ./options.nix lib) secretFile text outsideOfStore;

  has = value: value != null;
  appId = has cfg.githubAppId || has cfg.githubAppIdFile;
  isApp = appId || has cfg.githubAppPrivateKeyFile;
  option = name: "services.runner-provisioner.cleanup.${name}";
in
{
  imports = [ (import ./service.nix flake) ];

  options.services.runner-provisioner.cleanup = {
    enable = lib.mkEnableOption "ending, on a schedule, the GPU pods and runners that nothing owns any more";

    package = lib.mkOption {
      type = lib.types.package;
      default = flake.packages.${pkgs.stdenv.hostPlatform.system}.default;
      defaultText = lib.literalExpression "runner-provisioner.packages.\${system}.default";
      description = "The program.";
    };

    schedule = lib.mkOption {
      type = lib.types.str;
      default = "hourly";
      example = "*-*-* *:17:00";
      description = "When, as systemd.time(7) writes calendar events. A run that was missed is made up for.";
    };

    repository = text "The repository that runners are registered with, as OWNER/NAME." "acme/site";
    organization = text "The organisation that runners are registered with, instead of a repository." "acme";
    owner = text "The owner mark that `start` was given, when it was given one." "team-a";

    extraArgs = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ ];
      example = [ "--dry-run" ];
      description = "Further arguments of `cleanup`. Not for secrets: they are in the store.";
    };

    runpodKeyFile = secretFile "the RunPod API key";
    primeKeyFile = secretFile "the Prime Intellect API key";
    primeTeamId = text "The team that Prime Intellect bills, when there is one." "team_1";
    celiumKeyFile = secretFile "the Lium (formerly Celium) API key";
    githubAppId = text "Id or client id of the GitHub App, which is no secret." "12345";
    githubAppIdFile = secretFile "the id or client id of the GitHub App";
    githubAppPrivateKeyFile = secretFile "the private key (PEM) of the GitHub App";
    githubTokenFile = secretFile "a GitHub token, instead of an App";
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = has cfg.repository != has cfg.organization;
        message = "${option "repository"}: set either it or ${option "organization"}.";
      }
      {
        assertion = !has cfg.repository || builtins.match "[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+" cfg.repository != null;
        message = "${option "repository"}: write OWNER/NAME.";
      }
      {
        assertion = has cfg.runpodKeyFile || has cfg.primeKeyFile || has cfg.celiumKeyFile;
        message = "${option "runpodKeyFile"}: name the file with the RunPod API key, or set ${option "primeKeyFile"} or ${option "celiumKeyFile"}.";
      }
      {
        assertion = isApp || has cfg.githubTokenFile;
        message = "${option "githubTokenFile"}: set it, or ${option "githubAppId"} and ${option "githubAppPrivateKeyFile"}.";
      }
      {
        assertion = !(isApp && has cfg.githubTokenFile);
        message = "${option "githubTokenFile"}: leave it out where a GitHub App is used.";
      }
      {
        assertion = !(has cfg.githubAppId && has cfg.githubAppIdFile);
        message = "${option "githubAppIdFile"}: leave it out where ${option "githubAppId"} is set.";
      }
      {
        assertion = !isApp || (appId && has cfg.githubAppPrivateKeyFile);
        message = "${option "githubAppPrivateKeyFile"}: a GitHub App needs its id and its private key.";
      }
    ]
    ++ outsideOfStore credentials;

    systemd.services.runner-provisioner-cleanup = {
      description = "End GPU pods and runners that nothing owns any more";
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];

      environment = {
        HOME = "/var/lib/runner-provisioner";
        XDG_CACHE_HOME = "/var/cache";
        XDG_STATE_HOME = "/var/lib";
      };

      serviceConfig = {
        Type = "oneshot";
        ExecStart = lib.getExe cleanup;
        LoadCredential = lib.mapAttrsToList (name: file: "${name}:${file}") credentials;
        TimeoutStartSec = "20min";

        DynamicUser = true;
        StateDirectory = "runner-provisioner";
        StateDirectoryMode = "0700";
        CacheDirectory = "runner-provisioner";
        CacheDirectoryMode = "0700";
        WorkingDirectory = "/var/lib/runner-provisioner";
        UMask = "0077";
      }
      // import ./hardening.nix;
    };

    systemd.timers.runner-provisioner-cleanup = {
      description = "Clean up after GPU pods on a schedule";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        OnCalendar = cfg.schedule;
        Persistent = true;
        RandomizedDelaySec = "5min";
      };
    };
  };
}
