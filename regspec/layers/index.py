"""The kinds of each family of layers: generated, so that a family is imported when one is named."""

FAMILIES = {
    "activation": """
        Activation ReLU LeakyReLU ELU Softmax PReLU JumpReLU SReLU ParametricSoftplus
    """,
    "applications": """
        LayerScale StochasticDepth CustomScaleLayer
    """,
    "attention": """
        Attention AdditiveAttention
    """,
    "attention_heads": """
        MultiHeadAttention GroupQueryAttention
    """,
    "augmentation": """
        RandomFlip RandomCrop RandomErasing RandomGaussianBlur MixUp CutMix RandAugment AugMix
        MaxNumBoundingBoxes
    """,
    "colors": """
        RandomBrightness RandomContrast RandomColorDegeneration RandomGrayscale RandomSaturation RandomHue
        RandomColorJitter RandomInvert RandomPosterization RandomSharpness Solarization AutoContrast
        Equalization ContrastLimitedAdaptiveHistogramEqualization
    """,
    "convolution": """
        Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose DepthwiseConv1D DepthwiseConv2D
        SeparableConv1D SeparableConv2D
    """,
    "convolutional_recurrent": """
        ConvLSTM1D ConvLSTM2D ConvLSTM3D
    """,
    "dense": """
        Dense EinsumDense
    """,
    "dropout": """
        Dropout AlphaDropout SpatialDropout1D SpatialDropout2D SpatialDropout3D GaussianDropout GaussianNoise
        Sampling Identity ActivityRegularization
    """,
    "embedding": """
        Embedding ReversibleEmbedding
    """,
    "locally_connected": """
        LocallyConnected1D LocallyConnected2D
    """,
    "masking": """
        Masking
    """,
    "merging": """
        Add Subtract Multiply Maximum Minimum Average Concatenate Dot
    """,
    "normalization": """
        BatchNormalization GroupNormalization LayerNormalization RMSNormalization UnitNormalization
    """,
    "operations.along": """
        Cumsum Cumprod Diff Sort Argsort TopK Argmax Argmin Normalize Digitize SearchSorted Trapezoid
        ExtractSequences
    """,
    "operations.arithmetic": """
        Divide Power Mod FloorDivide DivideNoNan Heaviside Arctan2 Hypot Logaddexp Logaddexp2 Ldexp Fmod Fmax
        Fmin Gcd Lcm Equal NotEqual Greater GreaterEqual Less LessEqual Isclose LogicalAnd LogicalOr
        LogicalXor BitwiseAnd BitwiseOr BitwiseXor BitwiseLeftShift BitwiseRightShift Where
    """,
    "operations.elementwise": """
        Arccos Arccosh Arcsin Arcsinh Arctan Arctanh Ceil Cos Cosh Deg2rad Erf Erfc Erfinv Exp Exp2 Expm1
        Floor I0 Log Log10 Log1p Log2 Rad2deg Reciprocal Rsqrt Sin Sinc Sinh Sqrt Tan Cbrt Absolute Sign
        Square Trunc Negative Round Clip NanToNum Isfinite Isinf Isnan Isneginf Isposinf Signbit LogicalNot
        IsIn BitwiseInvert OnesLike ZerosLike FullLike StopGradient Cast
    """,
    "operations.images": """
        DepthToSpace SpaceToDepth ExtractPatches
    """,
    "operations.indexing": """
        GetItem Take TakeAlongAxis OneHot MultiHot
    """,
    "operations.matrices": """
        Inv Det Logdet Cholesky Pinv Solve SolveTriangular Eigh Slogdet Qr SVD
    """,
    "operations.parts": """
        Stack ArraySplit Split Unstack Tril Triu Diagonal Trace
    """,
    "operations.products": """
        Matmul Tensordot Einsum Cross CDist DotProductAttention
    """,
    "operations.rearranging": """
        ExpandDims Squeeze Swapaxes Moveaxis Flip Roll Rot90 Repeat Tile BroadcastTo Pad
    """,
    "operations.reductions": """
        Sum Nansum Mean Nanmean Logsumexp Any All Prod Max Min Ptp Std Var Moments CountNonzero Quantile
        Nanquantile Median Norm
    """,
    "operations.spectra": """
        RFFT IRFFT FFT FFT2 IFFT2 STFT
    """,
    "pooling": """
        MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D AveragePooling3D
        GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GlobalAveragePooling1D GlobalAveragePooling2D
        GlobalAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D
        AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
    """,
    "preprocessing": """
        Rescaling Normalization Resizing CenterCrop CategoryEncoding Discretization
    """,
    "recurrent": """
        RNN SimpleRNN LSTM GRU
    """,
    "reshaping": """
        Flatten Reshape Permute RepeatVector Cropping2D Cropping3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
        UpSampling2D UpSampling3D Cropping1D UpSampling1D
    """,
    "spectral": """
        SpectralNormalization
    """,
    "spectrograms": """
        STFTSpectrogram MelSpectrogram
    """,
    "tokens": """
        Parameter ClassToken PositionEmbedding SinePositionEncoding
    """,
    "warping": """
        RandomRotation RandomZoom RandomTranslation RandomShear RandomPerspective RandomElasticTransform
    """,
    "wrappers": """
        Bidirectional TimeDistributed
    """,
}
