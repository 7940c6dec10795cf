/* Classifies the 28x28 images of a PGM file, which lie below each other, with the bundle's static library.
 *
 *     BUNDLE=build/fmnist_dscnn-host-int8.edgec
 *     cc -I$BUNDLE/include examples/classify.c $BUNDLE/lib/libfmnist_dscnn.a -lpthread -o build/classify
 *     build/classify examples/garments.pgm
 */
#include <stdalign.h>
#include <stdio.h>

#include "fmnist_dscnn.h"

#define WIDTH 28
#define PIXELS (WIDTH * WIDTH)

static const char *const CLASSES[FMNIST_DSCNN_LOGITS_SIZE] = {
    "T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
};

static alignas(FMNIST_DSCNN_ARENA_ALIGNMENT) unsigned char arena[FMNIST_DSCNN_ARENA_BYTES];
static fmnist_dscnn_context context;

static int fail(const char *why) {
    fprintf(stderr, "classify: %s\n", why);
    return 1;
}

int main(int argc, char **argv) {
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    int width = 0, height = 0;
    if (!file) return fail("give the PGM file of the images");
    if (fscanf(file, "P5 %d %d 255", &width, &height) != 2 || width != WIDTH || fgetc(file) == EOF)
        return fail("this is no binary PGM file that is 28 pixels wide");

    fmnist_dscnn_status status = fmnist_dscnn_init(&context, arena, sizeof arena, 1);
    if (status != FMNIST_DSCNN_OK) return fail(fmnist_dscnn_status_text(status));

    unsigned char pixels[PIXELS];
    while (fread(pixels, 1, PIXELS, file) == PIXELS) {
        float image[FMNIST_DSCNN_IMAGE_SIZE], logits[FMNIST_DSCNN_LOGITS_SIZE];
        for (int i = 0; i < PIXELS; i++) image[i] = (float)pixels[i] / 255.0f;

        const fmnist_dscnn_inputs inputs = {.image = image};
        fmnist_dscnn_outputs outputs = {.logits = logits};
        status = fmnist_dscnn_run(&context, &inputs, &outputs);
        if (status != FMNIST_DSCNN_OK) return fail(fmnist_dscnn_status_text(status));

        int best = 0;
        for (int i = 1; i < FMNIST_DSCNN_LOGITS_SIZE; i++)
            if (logits[i] > logits[best]) best = i;
        printf("%s\n", CLASSES[best]);
    }
    fmnist_dscnn_close(&context);
    fclose(file);
    return 0;
}
