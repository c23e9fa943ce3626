package io.github.panamallama.examples.cli;

import io.github.panamallama.hub.HubModel;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.TypeConversionException;

/** {@code owner/repository[:QUANT]} as an argument. */
final class HubName implements ITypeConverter<HubModel> {
    @Override
    public HubModel convert(String text) {
        try {
            return HubModel.parse(text);
        } catch (IllegalArgumentException e) {
            throw new TypeConversionException(e.getMessage());
        }
    }
}
