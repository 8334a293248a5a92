# What `nix run` starts: the command line, and a shorter way to its commands.
{
  pkgs,
  runner-provisioner,
  with-simulators,
}:
let
  inherit (pkgs) lib;

  program = description: path: {
    type = "app";
    program = path;
    meta = { inherit description; };
  };

  # `exec`, so that signals reach the program itself.
  command =
    package: name: description:
    program description (
      lib.getExe (
        pkgs.writeShellApplication {
          name = "runner-provisioner-${name}";
          text = ''
            exec ${lib.getExe package} ${name} "$@"
          '';
        }
      )
    );
in
{
  default = program "The whole command line" (lib.getExe runner-provisioner);
  start = command runner-provisioner "start" "Rent a GPU pod and bring one runner for one job online";
  stop = command runner-provisioner "stop" "End a run's pod and runner";
  cleanup = command runner-provisioner "cleanup" "End every pod and runner that nothing owns any more";
  demo = command with-simulators "demo" "Run a workflow's GPU jobs for real on simulated services";
}
