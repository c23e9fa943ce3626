package io.github.panamallama.layers;

import io.github.panamallama.runtime.Engine;
import io.github.panamallama.runtime.LayerPlanException;

/** Which models blocks can be measured of. */
final class Decoders {
    private Decoders() {
    }

    /** @throws LayerPlanException if the model has no residual stream of tokens behind each other to measure */
    static void require(Engine engine, String method) {
        var model = engine.model();
        if (model.hasEncoder() || !model.hasDecoder() || model.isRecurrent() || model.isHybrid()) {
            throw new LayerPlanException(method + " is for decoders whose blocks all attend; " + model.architecture() + " is "
                    + (model.isRecurrent() || model.isHybrid() ? "recurrent" : "an encoder"));
        }
    }
}
