
#include <eml_net.h>
static const float mynet_layer_0_biases[6] = { -0.594366f, 0.213767f, -0.549516f, 0.685880f, 0.036846f, -0.135204f };
static const float mynet_layer_0_weights[24] = { 0.072622f, 0.330371f, 0.162200f, 0.066539f, -0.115274f, 0.223019f, -0.093689f, 0.604085f, 0.721297f, -0.177571f, 0.448938f, 0.047764f, 0.102415f, 0.662334f, -0.661549f, -0.636612f, -0.740275f, 0.512293f, 0.427918f, 0.570222f, 0.744472f, 0.466453f, -0.056677f, 0.437593f };
static const float mynet_layer_1_biases[5] = { -0.500736f, -0.578513f, 0.233914f, -0.537439f, -0.445178f };
static const float mynet_layer_1_weights[30] = { -0.350774f, 0.408070f, -0.067770f, 0.104084f, -0.713794f, 0.170761f, 0.162577f, 0.175721f, 0.652460f, 0.271563f, -0.210520f, -0.090011f, 0.288921f, -0.646591f, 0.243331f, 0.255047f, -0.430792f, -0.545113f, -0.275629f, -0.198313f, 0.100688f, -0.087692f, 0.718376f, -0.584819f, -0.433017f, -0.497283f, 0.223157f, -0.361439f, -0.052761f, -0.374512f };
static const float mynet_layer_2_biases[1] = { 0.949920f };
static const float mynet_layer_2_weights[5] = { -0.259553f, 0.644986f, -0.802799f, 0.673303f, -0.804806f };
static float mynet_buf1[6];
static float mynet_buf2[6];
static const EmlNetLayer mynet_layers[3] = { 
{ 6, 4, mynet_layer_0_weights, mynet_layer_0_biases, EmlNetActivationTanh }, 
{ 5, 6, mynet_layer_1_weights, mynet_layer_1_biases, EmlNetActivationTanh }, 
{ 1, 5, mynet_layer_2_weights, mynet_layer_2_biases, EmlNetActivationLogistic } };
static EmlNet mynet = { 3, mynet_layers, mynet_buf1, mynet_buf2, 6 };

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
    