package io.github.panamallama.examples.cli;

import io.github.panamallama.runtime.Device;
import io.github.panamallama.runtime.Model;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** What computes here, and what a model would take on each. */
@Command(name = "devices",
        description = "List what computes here, and with -m what that model would take on each device; nothing is loaded.")
final class DevicesCommand implements Callable<Integer> {
    @ParentCommand
    private Main main;

    @Spec
    private CommandSpec spec;

    @Mixin
    private ModelMixin model;

    @Mixin
    private EngineMixin engine;

    @Option(names = "--json", description = "As JSON.")
    private boolean json;

    @Override
    public Integer call() throws Exception {
        var options = model.options(main);
        var devices = Device.list(model.rpcServers());
        var estimate = model.shipped() ? null : Model.estimate(model.path(), options, engine.options(spec.commandLine()));
        if (json) {
            var document = new LinkedHashMap<String, Object>();
            document.put("devices", devices.stream().map(DevicesCommand::entry).toList());
            if (estimate != null) {
                var places = new ArrayList<Map<String, Object>>();
                for (var device : estimate.devices()) {
                    var place = new LinkedHashMap<String, Object>();
                    place.put("name", device.name());
                    place.put("layers", device.layers());
                    place.put("weights", device.weights());
                    place.put("mapped", device.mapped());
                    place.put("context", device.context());
                    place.put("compute", device.compute());
                    places.add(place);
                }
                document.put("model", model.path().toString());
                document.put("estimate", places);
            }
            main.shell().println(Json.write(document));
            return Main.OK;
        }
        var lines = new StringBuilder();
        for (var device : devices) {
            lines.append(String.format(Locale.ROOT, "%-8s %-14s %s free of %s  %s%n", device.name(), type(device),
                    Units.bytes(device.freeBytes()),
                    Units.bytes(device.totalBytes()), device.description()));
        }
        if (estimate != null) {
            lines.append(String.format("%s%n", model.path()));
            for (var device : estimate.devices()) {
                lines.append(String.format("  %s%n", ModelMixin.describe(device)));
            }
        }
        main.shell().print(lines.toString());
        return Main.OK;
    }

    private static String type(Device device) {
        return device.type().name().toLowerCase(Locale.ROOT).replace('_', ' ');
    }

    private static Map<String, Object> entry(Device device) {
        var entry = new LinkedHashMap<String, Object>();
        entry.put("name", device.name());
        entry.put("description", device.description());
        entry.put("type", type(device));
        entry.put("memory_free", device.freeBytes());
        entry.put("memory_total", device.totalBytes());
        return entry;
    }
}
