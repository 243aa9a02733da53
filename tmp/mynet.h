
#include <eml_net.h>
static const float mynet_layer_0_biases[5] = { 0.454194f, 0.284957f, -0.033359f, 0.267430f, -0.362799f };
static const float mynet_layer_0_weights[20] = { 0.048901f, 0.199883f, 0.099608f, 0.045145f, -0.074854f, 0.140547f, -0.055842f, 0.372320f, 0.440141f, -0.112876f, 0.272063f, 0.030246f, 0.061199f, 0.398257f, -0.407415f, -0.386779f, -0.449345f, 0.311072f, 0.259307f, 0.345979f };
static const float mynet_layer_1_biases[4] = { 0.163878f, -0.276051f, -0.346852f, -0.177015f };
static const float mynet_layer_1_weights[20] = { 0.134919f, -0.339248f, 0.422238f, 0.017599f, -0.077457f, -0.224978f, 0.261551f, -0.044342f, 0.067519f, -0.456685f, 0.113907f, 0.102687f, 0.113246f, 0.415372f, 0.174422f, -0.135457f, -0.062368f, 0.189327f, -0.417624f, 0.160230f };
static const float mynet_layer_2_biases[1] = { -0.506377f };
static const float mynet_layer_2_weights[4] = { -0.175393f, 0.085794f, -0.080663f, 0.614751f };
static float mynet_buf1[5];
static float mynet_buf2[5];
static const EmlNetLayer mynet_layers[3] = { 
{ 5, 4, mynet_layer_0_weights, mynet_layer_0_biases, EmlNetActivationLogistic }, 
{ 4, 5, mynet_layer_1_weights, mynet_layer_1_biases, EmlNetActivationLogistic }, 
{ 1, 4, mynet_layer_2_weights, mynet_layer_2_biases, EmlNetActivationLogistic } };
static EmlNet mynet = { 3, mynet_layers, mynet_buf1, mynet_buf2, 5 };

    int32_t
    mynet_predict(const float *features, int32_t n_features)
    {
        return eml_net_predict(&mynet, features, n_features);
    }
    

    int32_t
    mynet_regress(const float *features, int32_t n_features, float *out, int32_t out_length)
    {
        return eml_net_regress(&mynet, features, n_features, out, out_length);
    }
    

    float
    mynet_regress1(const float *features, int32_t n_features)
    {
        return eml_net_regress1(&mynet, features, n_features);
    }
    