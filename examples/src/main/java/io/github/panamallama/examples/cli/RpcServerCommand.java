package io.github.panamallama.examples.cli;

import io.github.panamallama.runtime.Device;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** Lends a device of this machine to models that run on another one. */
@Command(name = "rpc-server", description = {
    "Lend a device of this machine to models that run on another one (--rpc HOST:PORT there), until Ctrl-C.",
    "Nothing is encrypted and clients are trusted: at an address other than 127.0.0.1, only on a network of your own."})
final class RpcServerCommand implements Callable<Integer> {
    @ParentCommand
    private Main main;

    @Spec
    private CommandSpec spec;

    @Option(names = {"-H", "--host"}, paramLabel = "ADDRESS", description = "IPv4 address to listen at. Default: ${DEFAULT-VALUE}.")
    private String host = "127.0.0.1";

    @Option(names = {"-p", "--port"}, paramLabel = "N", description = "Default: ${DEFAULT-VALUE}.")
    private int port = 50052;

    @Option(names = {"-d", "--device"}, paramLabel = "NAME",
            description = "The device to lend. Without it: the first GPU, else the processor.")
    private String device;

    @Option(names = {"-t", "--threads"}, paramLabel = "N", description = "Threads, if it is the processor. Without it: one per core.")
    private int threads;

    @Override
    public Integer call() {
        if (!host.equals("127.0.0.1")) {
            main.shell().note("everybody who reaches " + host + ":" + port + " can use this machine and crash the server");
        }
        // native code listens for good, and holds nothing that an end of the process would harm
        main.interrupts().onInterrupt(() -> Runtime.getRuntime().halt(Main.INTERRUPTED));
        try {
            Device.serve(host, port, device, threads);
        } catch (IllegalArgumentException e) {
            throw new ParameterException(spec.commandLine(), e.getMessage());
        }
        return Main.FAILURE;
    }
}
