// How the sequence of one slot is sampled; the host writes it when the sequence is admitted.
// CudaSlotParameters in SimpleR1.Inference has the same layout.

struct Parameters
{
    u32 seedLow, seedHigh; // of the sample's stream
    float scale; // 1 / temperature, or 1 when greedy
    int greedy, topK; // top-k 0 keeps all
    float topP, minP, repetition, presence, frequency;
    int promptLength, reserved;
};
