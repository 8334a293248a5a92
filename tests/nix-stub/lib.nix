# The functions of nixpkgs' lib that the project calls, with their meaning and less of their detail.
let
  b = builtins;
in
rec {
  inherit (b)
    attrNames
    attrValues
    concatMap
    concatStringsSep
    elem
    filter
    isAttrs
    isFunction
    ;

  genAttrs = names: f: b.listToAttrs (map (name: { inherit name; value = f name; }) names);
  mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
  filterAttrs = keep: set: removeAttrs set (filter (name: !keep name set.${name}) (attrNames set));
  optionals = condition: list: if condition then list else [ ];
  optionalString = condition: text: if condition then text else "";
  optionalAttrs = condition: set: if condition then set else { };
  hasPrefix = prefix: text: b.substring 0 (b.stringLength prefix) text == prefix;
  concatMapStringsSep = separator: f: list: concatStringsSep separator (map f list);
  escapeShellArg = text: "'${b.replaceStrings [ "'" ] [ "'\\''" ] (toString text)}'";
  escapeShellArgs = concatMapStringsSep " " escapeShellArg;
  versionAtLeast = version: least: b.compareVersions version least >= 0;
  makeBinPath = concatMapStringsSep ":" (package: "${package}/bin");
  getExe = package: "${package}/bin/${package.meta.mainProgram}";
  importTOML = path: b.fromTOML (b.readFile path);
  callPackageWith =
    scope: path: given:
    let
      f = import path;
      missing = name: throw "callPackage: nixpkgs has no `${name}'";
      wanted = b.mapAttrs (name: hasDefault: scope.${name} or (missing name)) (
        filterAttrs (name: hasDefault: !hasDefault && !(given ? ${name})) (b.functionArgs f)
      );
    in
    f (wanted // given);

  licenses.mit.spdxId = "MIT";
  platforms.unix = [ "x86_64-linux" "aarch64-linux" "aarch64-darwin" ];

  fileset = {
    unions = paths: map (path: if b.pathExists path then path else throw "fileset: ${toString path} does not exist") paths;
    toSource =
      { root, fileset }:
      let
        chosen = map toString fileset;
        above = path: b.any (one: hasPrefix "${path}/" one) chosen;
        inside = path: b.any (one: path == one || hasPrefix "${one}/" path) chosen;
      in
      b.path {
        name = "source";
        path = root;
        filter = path: _: inside path || above path;
      };
  };

  # Modules
  mkOption = option: option // { _type = "option"; };
  mkEnableOption =
    what:
    mkOption {
      type = types.bool;
      default = false;
      description = "Whether to enable ${what}.";
    };
  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  literalExpression = text: { inherit text; };

  types =
    let
      type = name: check: { inherit name check; merge = one; };
      one = place: values: if b.length values == 1 then b.head values else throw "The option `${place}' is defined more than once";
    in
    rec {
      bool = type "boolean" b.isBool;
      str = type "string" b.isString;
      port = type "16 bit unsigned integer; between 0 and 65535 (both inclusive)" (value: b.isInt value && value >= 0 && value < 65536);
      ints.unsigned = type "unsigned integer, meaning >=0" (value: b.isInt value && value >= 0);
      package = type "package" (value: isAttrs value && value ? outPath);
      anything = type "anything" (_: true) // { merge = place: b.foldl' recursiveUpdate { }; };
      attrsOf = element: type "attribute set of ${element.name}" isAttrs // { merge = place: b.foldl' recursiveUpdate { }; };
      nullOr = element: element // {
        name = "null or ${element.name}";
        check = value: value == null || element.check value;
      };
      listOf = element: {
        name = "list of ${element.name}";
        check = value: b.isList value && b.all element.check value;
        merge = place: b.concatLists;
      };
    };

  recursiveUpdate =
    left: right:
    left
    // b.mapAttrs (
      name: value: if isAttrs value && isAttrs (left.${name} or null) then recursiveUpdate left.${name} value else value
    ) right;

  evalModules =
    { modules, specialArgs }:
    let
      args = specialArgs // { inherit config; lib = specialArgs.lib; };
      load =
        module:
        let
          read = if isFunction module || isAttrs module then module else import module;
          called = if isFunction read then read args else read;
          shorthand = !(called ? config || called ? options);
        in
        [ (if shorthand then { config = removeAttrs called [ "imports" ]; } else called) ]
        ++ concatMap load (called.imports or [ ]);
      loaded = concatMap load modules;
      isOption = value: value._type or null == "option";

      # A condition is pushed to the leaves, so that it may depend on other options.
      push =
        definition:
        if definition._type or null == "if" then
          map (b.mapAttrs (_: mkIf definition.condition)) (push definition.content)
        else
          [ definition ];
      hold =
        definition:
        if definition._type or null == "if" then
          optionals definition.condition (hold definition.content)
        else
          [ definition ];

      leaf =
        place: option: definitions:
        let
          values = concatMap hold definitions;
          wrong = filter (value: !option.type.check value) values;
        in
        if wrong != [ ] then
          throw "A definition for option `${place}' is not of type `${option.type.name}'"
        else if values != [ ] then
          option.type.merge place values
        else
          option.default or (throw "The option `${place}' is used but not defined");

      tree =
        place: options: definitions:
        if isOption options then
          leaf place options definitions
        else
          let
            pushed = concatMap push definitions;
            unknown = filter (name: !(options ? ${name})) (concatMap attrNames pushed);
          in
          if unknown != [ ] then
            throw "The option `${place}.${b.head unknown}' does not exist"
          else
            b.mapAttrs (name: below: tree "${place}.${name}" below (b.catAttrs name pushed)) options;

      options = b.foldl' recursiveUpdate { } (map (module: module.options or { }) loaded);
      config = tree "config" options (map (module: module.config or { }) loaded);
    in
    {
      inherit config options;
    };
}
